"""What people read: texts and tables."""
