"""What predictions are worth: `measures` <- `reports` (figures as JSON) <- `plots` <- `pages` (HTML, CSV, terminal)."""
