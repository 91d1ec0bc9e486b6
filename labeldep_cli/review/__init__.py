"""A person looks at images and decides on their labels: the cards, the decisions, the local page."""
