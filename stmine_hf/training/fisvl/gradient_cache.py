"""Contrastive batches that exceed memory: the same loss and gradients as on the whole batch, a chunk at a time.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.

A contrastive loss needs all embeddings of a batch at once, but not all activations behind them. So every chunk is
embedded without activations; the loss of all embeddings gives its gradient with respect to each; then every chunk is
embedded again, with activations and the same dropout, and carries its part of that gradient on to the weights. This
takes one more forward pass, a third more work, and the memory of a chunk.

A batch norm in training mode uses the statistics of a chunk, as it uses those of one process's rows; the gradient
is that of the direct loss where batch norms are frozen or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..gradient_checkpointing import unchanged_statistics

_PER_TEXT = ("input_ids", "attention_mask", "token_type_ids")


@dataclass
class RandomState:
    """The state of torch's random generators, of the CPU and of one device."""

    cpu: Tensor
    device: torch.device
    on_device: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        on_device = None if device.type == "cpu" else getattr(torch, device.type).get_rng_state(device)
        return cls(torch.get_rng_state(), device, on_device)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.on_device is not None:
            getattr(torch, self.device.type).set_rng_state(self.on_device, self.device)


def split_batch(inputs: Mapping[str, Any], images: int) -> Iterator[dict[str, Tensor]]:
    """The inputs of the encoders, in chunks of at most `images` images with their captions (k each, in order)."""
    count = len(inputs["pixel_values"])
    captions = len(inputs["input_ids"]) // count
    for start in range(0, count, images):
        end = min(start + images, count)
        chunk = {"pixel_values": inputs["pixel_values"][start:end]}
        for name in _PER_TEXT:
            if inputs.get(name) is not None:
                chunk[name] = inputs[name][start * captions : end * captions]
        yield chunk


def cached_step(
    model: Callable[..., Any],
    network: nn.Module,
    chunks: list[dict[str, Tensor]],
    loss_of: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]],
    backward: Callable[[Tensor], None],
) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    """Loss of a batch, its gradients added to those of the weights.

    Args:
        model: embeds a chunk: an output with `image_embeds` and `text_embeds`.
        network: the module with the weights, batch norms included.
        chunks: of `split_batch`.
        loss_of: loss and terms of all image and text embeddings. It may use weights itself, such as temperatures.
        backward: called instead of `loss.backward()`.

    Returns:
        Loss, terms, image embeddings (P, D) and text embeddings (T, D), all detached.
    """
    device = chunks[0]["pixel_values"].device
    states, images, texts = [], [], []
    with torch.no_grad(), unchanged_statistics(network):
        for chunk in chunks:
            states.append(RandomState.now(device))
            outputs = model(**chunk)
            images.append(outputs.image_embeds)
            texts.append(outputs.text_embeds)
    sizes = [len(part) for part in images], [len(part) for part in texts]
    image_embeds, text_embeds = torch.cat(images).requires_grad_(), torch.cat(texts).requires_grad_()
    loss, terms = loss_of(image_embeds, text_embeds)
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]  # the loss itself uses a few
    of_images, of_texts, *of_own = torch.autograd.grad(loss, [image_embeds, text_embeds, *own], allow_unused=True)
    of_batch = zip(chunks, states, of_images.split(sizes[0]), of_texts.split(sizes[1]), strict=True)
    for number, (chunk, state, of_image, of_text) in enumerate(of_batch):
        state.restore()
        outputs = model(**chunk)
        carried = (outputs.image_embeds * of_image).sum() + (outputs.text_embeds * of_text).sum()
        if number == 0:
            carried = carried + sum((p * grad for p, grad in zip(own, of_own, strict=True) if grad is not None), 0.0)
        backward(carried)
    terms = {name: term.detach() for name, term in terms.items()}
    return loss.detach(), terms, image_embeds.detach(), text_embeds.detach()


def average_gradients(network: nn.Module) -> None:
    """What `DistributedDataParallel` does at the end of a backward pass, for one that it did not see."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
