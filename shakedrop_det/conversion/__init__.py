"""ResNet weights of torchvision and timm in detectron2's names, and back."""
