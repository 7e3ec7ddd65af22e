"""What is measured: each kind of network with its settings, how it is made and how it is kept."""
