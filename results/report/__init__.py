"""One page of results: what records say, as a single HTML file or served while runs go on."""
