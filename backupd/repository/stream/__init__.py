"""A tar stream: its members, where it is cut, how it is read ahead, and how pieces are stored."""
