"""Fast paths shared by several attentions."""
