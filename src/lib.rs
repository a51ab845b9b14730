//! PostgreSQL lock management for Diesel.
