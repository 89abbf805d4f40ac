"""Convert ResNet weights of torchvision and timm to detectron2, and back."""
