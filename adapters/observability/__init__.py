"""What Prometheus, Alertmanager and Grafana are given: rules, alerts and boards, made from the definitions."""
