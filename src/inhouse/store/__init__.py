"""What outlives a process: records behind a contract that SQLite meets today and PostgreSQL can meet later."""
