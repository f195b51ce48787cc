"""What people read: HTML pages, CSV, Markdown and tables in the terminal; all text from data is escaped."""
