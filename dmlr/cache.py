"""Keys and values of one batch: the prefix once, then whatever is forwarded after it.

Stands where transformers expects a `Cache` (it calls `update` from every attention layer). Unlike the library's
caches it is a plain buffer with a write position: forwarding a block does not move the position, so the next block
overwrites it, and the prefix is neither copied nor cropped between the steps of the optimisation.
"""

import torch
from torch import Tensor


class KVCache:
    """Buffers (B, Hkv, capacity, d) per layer; `length` slots are kept, what lies behind is scratch.

    Scratch starts as zeros: a masked slot has weight 0, but 0 times a NaN that memory happened to hold is NaN.
    """

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.keys: list[Tensor | None] = [None] * num_layers
        self.values: list[Tensor | None] = [None] * num_layers
        self.capacity = capacity
        self.length = 0
        self.slot: Tensor | None = (
            None  # (1,) int64: write one token there and return all slots (fixed shapes)
        )

    def update(
        self, key: Tensor, value: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Put (B, Hkv, Q, d) behind the kept slots and return all that the new rows may attend to.

        Under autograd (`--use_auto_grad`) nothing is written: the kept part is constant and the new part is
        concatenated, so that a step leaves no graph behind in the buffers.
        """
        if self.slot is not None:
            keys, values = self._buffers(layer_idx, key)
            slot = self.slot.to(key.device)
            return keys.index_copy_(2, slot, key), values.index_copy_(2, slot, value)
        end = self.length + key.shape[2]
        if torch.is_grad_enabled() and key.requires_grad:
            kept_keys, kept_values = self._buffers(layer_idx, key)
            return (
                torch.cat([kept_keys[:, :, : self.length], key], dim=2),
                torch.cat([kept_values[:, :, : self.length], value], dim=2),
            )
        if end > self.capacity:
            raise RuntimeError(f"cache holds {self.capacity} slots, {end} wanted: call reserve() first")
        keys, values = self._buffers(layer_idx, key)
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def _buffers(self, layer_idx: int, like: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        if keys is None or values is None:
            shape = (like.shape[0], like.shape[1], self.capacity, like.shape[3])
            keys, values = like.new_zeros(shape), like.new_zeros(shape)
            self.keys[layer_idx], self.values[layer_idx] = keys, values
        return keys, values

    def commit(self, count: int) -> None:
        """Keep the `count` slots written last."""
        self.length += count

    def reserve(self, count: int) -> None:
        """Make room for `count` slots behind the kept ones; grows every layer by one copy when there is none."""
        needed = self.length + count
        if needed <= self.capacity:
            return
        self.capacity = needed
        for buffers in (self.keys, self.values):
            for i, old in enumerate(buffers):
                if old is not None:
                    new = old.new_zeros(old.shape[0], old.shape[1], needed, old.shape[3])
                    new[:, :, : self.length] = old[:, :, : self.length]
                    buffers[i] = new

    def select(self, rows: Tensor) -> "KVCache":
        """A new cache that holds the given batch rows (int64) with the same kept slots."""
        chosen = KVCache(len(self.keys), self.capacity)
        chosen.length = self.length
        for mine, theirs in ((self.keys, chosen.keys), (self.values, chosen.values)):
            for i, old in enumerate(mine):
                if old is not None:
                    new = old.new_zeros(len(rows), *old.shape[1:])
                    new[:, :, : self.length] = old[rows.to(old.device), :, : self.length]
                    theirs[i] = new
        return chosen

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of kept slots (transformers asks)."""
        return self.length
