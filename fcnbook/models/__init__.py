"""The networks: images -> Features -> SegLogits. Layers, backbones, necks, heads, and the segmenter that joins them."""
