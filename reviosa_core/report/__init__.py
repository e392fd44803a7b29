"""Measured numbers in, what people look at out: pictures, charts, tables, pages, MLflow."""
