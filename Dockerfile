# Crossfade as an image: what docker-compose.yml builds. Not built where it was written; see docs/observability.md.
FROM python:3.12.8-slim-bookworm

WORKDIR /build
COPY pyproject.toml README.md alembic.ini ./
COPY harness harness
COPY adapters adapters
COPY reports reports
COPY alembic alembic
RUN pip install --no-cache-dir --disable-pip-version-check . && rm -rf /build

COPY docker /opt/crossfade
# A named volume takes over the owner of the folder that it is first mounted on.
RUN useradd --create-home crossfade && install --directory --owner crossfade /monitoring
USER crossfade
WORKDIR /home/crossfade
CMD ["crossfade", "--help"]
