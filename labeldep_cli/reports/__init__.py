"""Results for people to read: text tables, pictures, figures and HTML pages."""
