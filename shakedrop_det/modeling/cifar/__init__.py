"""Networks for small images: CIFAR ResNets, PyramidNets and networks of two branches."""
