"""Learning by gradients: advantages, losses, and the one loop that optimises them."""
