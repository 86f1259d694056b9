"""This migration: Netflix Dispatch's prompts to Prompt Manager."""
