"""How to get data (``corpora``) and how to pre-train an upstream on it (``pretrain``)."""
