"""What makes a repository unreadable without an identity: age, keys and MACs."""
