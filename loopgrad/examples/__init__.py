"""Examples that train on real data, one file each; `loopgrad train NAME` runs them."""
