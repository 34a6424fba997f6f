"""Widgets and charts for notebooks."""
