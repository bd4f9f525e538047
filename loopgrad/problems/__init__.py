"""The source problems, worked: what is asked stands here, every answer is computed when asked."""
