"""EoMT: queries that join the tokens of a vision transformer in its last blocks, and predict masks.

Source: Kerssies et al. 2025, Your ViT is Secretly an Image Segmentation Model, section 3. The names of the
weights are those of its authors.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ..layers import resize
from .base import PUBLISHED_STYLE, Decoder, Style
from .query import QueryScores

_EPS = 1e-6  # of the normalization in an upscaling
_ANNEALING_POWER = 0.9


class EoMT(Decoder):
    """Queries, the heads for their classes and masks, and the upscaling of the map of patches.

    In the last blocks of the encoder, before each of them, the queries predict masks. In training, a query
    then attends to the patches inside its mask only. This restriction is lifted block by block, for a
    growing share of the queries, so that the trained model needs none of it (mask annealing).

    Shape: images (N, C, H, W) -> scores (N, num_class, H, W) at stride 1, see `QueryScores.pixels`.

    Attributes:
        joint_blocks: blocks of the encoder that the queries pass through.
        attn_mask_probs: for each of these, the share of the queries whose attention is restricted. In
            evaluation, the block restricts all queries if the share is one half or more, and none otherwise.
    """

    options: ClassVar[tuple[str, ...]] = ("queries", "joint_blocks", "upscales")
    softmax = False
    fixed_stride = 1
    attn_mask_probs: Tensor

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        for key in ("dim", "dropout", "norm"):
            if (given := getattr(style, key)) != (default := getattr(PUBLISHED_STYLE, key)):
                raise UserError(
                    f"MODEL.decoder_{key} is {given}, but the decoder eomt has no layer that it changes. Set "
                    f"it to {default}."
                )
        width = channels[-1]
        self.queries, self.joint_blocks = style.queries, style.joint_blocks
        if min(self.queries, self.joint_blocks) < 1 or style.upscales < 0:
            raise ValueError("queries and joint_blocks must be above 0, and upscales not below 0")
        self.q = nn.Embedding(self.queries, width)
        self.class_head = nn.Linear(width, num_class + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.upscale = nn.Sequential(*(_Upscale(width) for _ in range(style.upscales)))
        self.register_buffer("attn_mask_probs", torch.ones(self.joint_blocks))
        self._annealing = self._equal_parts()
        # Python numbers, which neither wait for a GPU nor depend on data in an exported graph.
        self._restricted = (True,) * self.joint_blocks
        self.register_load_state_dict_post_hook(EoMT._note_restricted)

    @classmethod
    def query_count(cls, style: Style = PUBLISHED_STYLE) -> int:
        return style.queries

    @classmethod
    def obstacle(cls, encoder: nn.Module, style: Style = PUBLISHED_STYLE) -> str:
        blocks = getattr(encoder, "blocks", None)
        if not hasattr(encoder, "tokens") or blocks is None:
            return "joins its queries to the tokens of a vision transformer: dinov2_NAME or dinov3_NAME"
        if len(blocks) < style.joint_blocks:
            return f"has {style.joint_blocks} joint_blocks, but the encoder has only {len(blocks)} blocks"
        return ""

    def set_annealing(self, shares: Sequence[float]) -> None:
        pairs = tuple(zip(shares[::2], shares[1::2], strict=False))
        if shares and (len(shares) != 2 * self.joint_blocks or any(begin > end for begin, end in pairs)):
            raise UserError(
                f"TRAIN.mask_annealing is {tuple(shares)}, but must give two shares, the second not below "
                f"the first, for each of the {self.joint_blocks} joint blocks."
            )
        self._annealing = pairs or self._equal_parts()

    def _equal_parts(self) -> tuple[tuple[float, float], ...]:
        """Each block after the one before it, as in the published configs for DINOv2."""
        parts = self.joint_blocks + 2
        return tuple(((i + 1) / parts, (i + 2) / parts) for i in range(self.joint_blocks))

    def set_progress(self, share: float) -> None:
        """Anneal: a block restricts all queries up to its begin, and none from its end on."""
        values = [
            float(share < end)
            if share < begin or begin == end
            else (1 - min((share - begin) / (end - begin), 1.0)) ** _ANNEALING_POWER
            for begin, end in self._annealing
        ]
        self.attn_mask_probs.copy_(torch.tensor(values))
        self._restricted = tuple(value >= 0.5 for value in values)

    def features(self, encoder: nn.Module, images: Tensor) -> QueryScores:
        """The predictions of the queries: in training, of each joint block and after the last one."""
        vit: Any = encoder
        tokens = vit.tokens(images)
        size = (tokens.height, tokens.width)
        patch = vit.strides[0]
        x, first = tokens.sequence, len(vit.blocks) - self.joint_blocks
        masks: list[Tensor] = []
        classes: list[Tensor] = []
        for i, block in enumerate(vit.blocks):
            if i == first:
                x = torch.cat([self.q.weight[None].expand(x.shape[0], -1, -1).to(x.dtype), x], 1)
            allowed = None
            if i >= first and (self.training or self._restricted[i - first]):
                self._predict(vit, x, size, masks, classes)
                share = self.attn_mask_probs[i - first] if self.training else None
                allowed = self._allowed(masks[-1], x, size, share)
            x = vit.blocks.run(block, (x, tokens.rotations, allowed))
        self._predict(vit, x, size, masks, classes)
        padded = (size[0] * patch, size[1] * patch)
        return QueryScores(masks, classes, padded, tuple(images.shape[-2:]))  # type: ignore[arg-type]

    def logits(self, features: Any) -> Tensor:
        """The scores of the classes at each pixel, see `QueryScores.pixels`."""
        scores: QueryScores = features
        return scores.pixels()

    def forward(self, conv_out: Any, segSize: tuple[int, int] | None = None) -> Any:
        """In training, ``conv_out``, the predictions of all queries; for inference, probabilities.

        Args:
            conv_out: the result of `features`.
            segSize: (height, width) of the probabilities; None for the size of the image.
        """
        return super().forward(conv_out, segSize) if self.use_softmax else conv_out

    def _predict(
        self, vit: Any, x: Tensor, size: tuple[Any, Any], masks: list[Tensor], classes: list[Tensor]
    ) -> None:
        """Add the masks and the classes that the queries predict from a sequence."""
        x = vit.norm(x)
        queries = x[:, : self.queries]
        # In the layout of the sequence, torch.export would assume more than one image and one patch.
        patches = self.upscale(vit.as_map(x, *size).contiguous())
        masks.append(torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), patches))
        classes.append(self.class_head(queries))

    @torch.no_grad()
    def _allowed(self, masks: Tensor, x: Tensor, size: tuple[Any, Any], share: Tensor | None) -> Tensor:
        """Where a token attends, (N, 1, T, T): queries to the patches of their mask, and all to all else.

        Args:
            share: of the queries that are restricted; None for all of them.
        """
        inside = resize(masks, size).flatten(2) > 0
        if share is not None:
            free = torch.rand(inside.shape[:2], device=x.device) >= share
            inside = inside | free[..., None]
        length = x.shape[1]
        return F.pad(inside, (length - inside.shape[2], 0, 0, length - self.queries), value=True)[:, None]

    @staticmethod
    def _note_restricted(module: nn.Module, incompatible: object) -> None:
        values: Any = module.attn_mask_probs
        if not values.is_meta:
            module._restricted = tuple(value >= 0.5 for value in values.tolist())  # type: ignore[assignment]


class _Upscale(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.LayerNorm(width, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(F.gelu(self.conv1(x)))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
