"""What runs inside a notebook kernel."""
