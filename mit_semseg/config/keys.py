"""The table of config keys: the name of each, its default, the values that it allows, and its meaning.

Loading, error messages, ``mit-semseg config`` and docs/config.md all follow from this table.
"""

import difflib
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from yacs.config import CfgNode

from ..runtime.paths import PathError, expand
from .allowed import (
    Allowed,
    Choice,
    ClassWeights,
    Integer,
    ListOf,
    Names,
    Number,
    Options,
    Paths,
    Switch,
    Text,
    beyond,
)


@dataclass(frozen=True)
class Key:
    """A config key.

    Attributes:
        name: with its section: ``TRAIN.seed``.
        words: what may be written in place of a value.
        formerly: its name in an earlier release, which is still read.
        since: the release that added it, if later than 2.0. A config tree without it gets the default.
        hint: a sentence that follows the message for a wrong value.
        is_path: whether the value is a path, or a list of paths, in which `~` and variables are expanded.
    """

    name: str
    default: Any
    allowed: Allowed
    meaning: str
    words: Mapping[Any, Any] = field(default_factory=lambda: MappingProxyType({}))
    formerly: str = ""
    is_path: bool = False
    since: str = ""
    hint: str = ""

    @property
    def section(self) -> str:
        """The part before the dot; "" for ``DIR``."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def values(self) -> str:
        """The allowed values in words."""
        return ", or ".join([str(self.allowed), *(word for word in self.words if isinstance(word, str))])

    def read(self, value: Any) -> Any:
        """A value of YAML, the command line or Python, converted to the type that the code uses.

        Raises: ValueError with `refusal` for a value of another type, and for a path that cannot be expanded.
        """
        if value is None and self.default == "":
            return ""  # a config that was printed as YAML shows nothing for an empty text
        word = value.strip() if isinstance(value, str) else value
        if isinstance(word, str | bool) and word in self.words:
            return self.words[word]
        try:
            read = self.allowed.read(value)
            return _expanded(read) if self.is_path else read
        except PathError as error:
            raise ValueError(f"{self.name} is {value!r}, {error}.") from None
        except ValueError:
            raise ValueError(self.refusal(value)) from None

    def refusal(self, value: Any) -> str:
        """The sentence that refuses a value."""
        return (
            f"{self.name} is {_quoted(value)}, but must be {self.values}{beyond(value)}. {self.hint}".rstrip()
        )


def _quoted(value: Any) -> str:
    """A value for a message, shortened: with a few aliases, YAML can hold a list that no memory can print."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not write out an integer of thousands of digits
        return "a number of more than 4300 digits"


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 400
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 50


def _expanded(value: Any) -> Any:
    return tuple(map(expand, value)) if isinstance(value, tuple) else expand(value)


SECTIONS = {
    "DATASET": "The dataset, and how its images and labels are prepared.",
    "MODEL": "The model, and the weights that it starts from.",
    "TRAIN": "Training.",
    "VAL": "Evaluation (`eval_multipro.py`, `mit-semseg eval`) and the validation during training.",
    "TEST": "Prediction (`test.py`, `mit-semseg test`).",
    "INFERENCE": "How images are scored, in validation, evaluation, prediction and the Python API.",
}

KEYS = (
    Key(
        "DIR",
        "ckpt/ade20k-resnet50dilated-ppm_deepsup",
        Text("a folder"),
        "Folder for the checkpoints, the history and the results of a run.",
        is_path=True,
    ),
    Key(
        "DATASET.root_dataset",
        "./data/",
        Text("a folder"),
        "Folder, or address (`https://...`, `s3://...`), that the paths in the lists are relative to.",
        is_path=True,
    ),
    Key(
        "DATASET.list_train",
        "./data/training.odgt",
        Text("a file"),
        "List of the training images, one JSON object per line: `fpath_img`, `fpath_segm`, `width`, "
        "`height`.",
        is_path=True,
    ),
    Key(
        "DATASET.list_val",
        "./data/validation.odgt",
        Text("a file"),
        "List of the validation images, in the same format.",
        is_path=True,
    ),
    Key(
        "DATASET.classes",
        "",
        Text("a CSV file, or empty"),
        "Names and colours of the classes. Empty: those of ADE20K for 150 classes, numbers for any other "
        "count.",
        is_path=True,
    ),
    Key(
        "DATASET.num_class",
        150,
        Integer(2, 65535),
        "Number of classes.",
        hint="To find one kind of object, make the background a class as well: label it 1, and the object 2.",
    ),
    Key(
        "DATASET.imgSizes",
        (300, 375, 450, 525, 600),
        ListOf(Integer(1, 65536)),
        "Short edges in pixels. Training draws one for each sub-batch, inference averages over all of them.",
    ),
    Key(
        "DATASET.imgMaxSize",
        1000,
        Integer(1, 65536),
        "Upper limit of the long edge, in pixels.",
    ),
    Key(
        "DATASET.padding_constant",
        8,
        Integer(1, 4096),
        "Height and width of an image are rounded up to a multiple of this number, which must be a multiple "
        "of `segm_downsampling_rate`.",
    ),
    Key(
        "DATASET.segm_downsampling_rate",
        8,
        Integer(1, 4096),
        "Stride of the decoder's output, at which training compares it with the labels.",
    ),
    Key(
        "DATASET.random_flip",
        True,
        Switch(),
        "Mirror each training image with a probability of 1/2.",
    ),
    Key(
        "DATASET.label_offset",
        1,
        Integer(0),
        "Value of the first class in label files. Smaller values are ignored.",
    ),
    Key(
        "DATASET.ignore_label",
        -1,
        Integer(-1),
        "One more label value to ignore, such as 255. -1: none.",
    ),
    Key(
        "DATASET.channels",
        3,
        Integer(1, 64),
        "Channels of the images. 3: 8-bit RGB, unless one of the keys below asks for bands; see "
        "docs/bands.md.",
        since="2.1",
    ),
    Key(
        "DATASET.bands",
        (),
        ListOf(Integer(1, 65535), optional=True),
        "Bands of a file to read, in the order of the channels, counted from 1 as by GDAL. Empty: all, as "
        "many as `channels`.",
        since="2.1",
    ),
    Key(
        "DATASET.nodata",
        (),
        ListOf(Number(), optional=True),
        "Values that stand for no data, besides NaN and the value that a TIFF file names (GDAL_NODATA).",
        since="2.1",
    ),
    *(
        Key(
            name,
            (),
            ListOf(number, optional=True),
            f"{meaning} `mit-semseg data stats` computes it.",
            since="2.1",
        )
        for name, number, meaning in (
            ("DATASET.mean", Number(), "Mean of each channel, in the units of the files, after clipping."),
            ("DATASET.std", Number(above=0), "Standard deviation of each channel, likewise."),
            (
                "DATASET.clip_low",
                Number(),
                "Lower limit of each channel, to which smaller values are clipped.",
            ),
            (
                "DATASET.clip_high",
                Number(),
                "Upper limit of each channel, to which larger values are clipped.",
            ),
        )
    ),
    Key(
        "DATASET.display_bands",
        (),
        ListOf(Integer(1, 65535), optional=True),
        "Bands that pictures and reports show: one in gray, or three as red, green and blue. Empty: the "
        "first three, or the first.",
        since="2.1",
    ),
    Key(
        "DATASET.augment",
        "published",
        Text("published, crop, photos, or module:function"),
        "Augmentation of training images: `published` (random sizes and flips), `crop` (scale jitter, "
        "crops, flips and colour changes), `photos` (in addition light, shadows, blur, noise, JPEG and "
        "cut-outs), or a function of your own.",
    ),
    Key(
        "DATASET.augment_strength",
        1.0,
        Number(at_least=0, at_most=2),
        "How far `augment photos` changes an image. 1: as other cameras and hours of the day would. 0: not "
        "beyond `crop`.",
        since="2.1",
    ),
    Key(
        "DATASET.augment_parts",
        ("light", "shadow", "blur", "noise", "jpeg", "cutout"),
        Names(among=("light", "shadow", "blur", "noise", "jpeg", "cutout"), optional=True),
        "What `augment photos` adds to `crop`, see docs/data.md.",
        since="2.1",
    ),
    Key(
        "DATASET.crop_size",
        (512, 512),
        ListOf(Integer(1, 65536), length=2),
        "Height and width of a crop in pixels. Only with `augment crop` or `photos`.",
    ),
    Key(
        "DATASET.crop_max_share",
        0.75,
        Number(above=0, at_most=1),
        "A crop in which one class has a larger share of the labelled pixels is drawn again. 1: no limit. "
        "Only with `augment crop` or `photos`.",
    ),
    Key(
        "DATASET.scale_range",
        (0.5, 2.0),
        ListOf(Number(above=0, at_most=1000), length=2, ascending=True),
        "Smallest and largest factor that a size drawn from `imgSizes` is multiplied by. Only with `augment "
        "crop` or `photos`.",
    ),
    Key(
        "DATASET.window",
        0,
        Integer(0, 65536),
        "Side in pixels of the windows of scenes (GeoTIFFs) in the lists. Scenes and images are scored "
        "at the scale of these windows in training: `imgSizes / window`. 0: each is scaled to `imgSizes`.",
        since="2.1",
    ),
    Key(
        "DATASET.on_error",
        "raise",
        Choice("raise", "skip"),
        "What training does with a file that cannot be used: `raise` ends it with an error, `skip` replaces "
        "the file, up to 1 % of the list, and at least one file, in each process.",
    ),
    Key(
        "DATASET.cache",
        "",
        Text("a folder, or empty"),
        "Folder for copies of remote images and labels. Empty: `mit_semseg_data` in torch's cache, which "
        "follows `TORCH_HOME`. Commands may share it.",
        is_path=True,
        since="2.1",
    ),
    Key(
        "DATASET.cache_gb",
        20.0,
        Number(at_least=0),
        "Size of these copies together, in GB (10^9 bytes). Those not read for the longest time are removed. "
        "0: none are kept.",
        since="2.1",
    ),
    Key(
        "MODEL.arch_encoder",
        "resnet50dilated",
        Text("the name of an encoder"),
        "A name in `mit_semseg.models.builder.ENCODERS`, or `timm/NAME` for a model of timm.",
    ),
    Key(
        "MODEL.arch_decoder",
        "ppm_deepsup",
        Text("the name of a decoder"),
        "A name in `mit_semseg.models.builder.DECODERS`.",
    ),
    Key(
        "MODEL.pretrained",
        True,
        Switch(),
        "Start the encoder from ImageNet weights. False: from random weights, without a download.",
    ),
    Key(
        "MODEL.weights_encoder",
        "",
        Text("a checkpoint, a model of another program, hf:ORG/NAME, package:NAME, or empty"),
        "Weights that the encoder starts from, instead of ImageNet weights. Of a model of another program "
        "or a packed one, its encoder.",
        is_path=True,
    ),
    Key(
        "MODEL.weights_decoder",
        "",
        Text("a checkpoint, a model of another program, hf:ORG/NAME, or empty"),
        "Weights that the decoder starts from. Of a model of another program or a packed one, its decoder. "
        "Empty: random weights.",
        is_path=True,
    ),
    Key(
        "MODEL.reset_classifier",
        False,
        Switch(),
        "Load `weights_decoder` without the layers that score the classes, which start from random weights. "
        "The number of classes may then differ.",
    ),
    Key(
        "MODEL.fc_dim",
        2048,
        Integer(1),
        "Channels of the encoder's last feature map. Ignored for encoders of timm, which report it.",
    ),
    Key(
        "MODEL.output_stride",
        0,
        Choice(0, 8, 16, 32),
        "Stride of the last feature map of an encoder of timm. 0: the model's own.",
    ),
    Key(
        "MODEL.decoder_dim",
        0,
        Integer(0, 8192),
        "Channels of the decoder's inner feature maps. 0: the published width.",
    ),
    Key(
        "MODEL.decoder_dropout",
        -1.0,
        Number(at_least=0, below=1, other=(-1,)),
        "Dropout probability of the channels before the classifier. -1: the published one.",
    ),
    Key(
        "MODEL.decoder_norm",
        "batch",
        Choice("batch", "group"),
        "Normalization in the decoder: `batch` (synchronized BatchNorm), or `group` (GroupNorm, for any "
        "batch size).",
    ),
    Key(
        "MODEL.encoder_options",
        "",
        Options(),
        "Options of the encoder, such as the strides of its stages, for models of other programs; see "
        "models.md. Empty: its own.",
        since="2.1",
    ),
    Key(
        "MODEL.decoder_options",
        "",
        Options(),
        "Options of the decoder, such as the encoder maps that it reads, for models of other programs; see "
        "models.md. Empty: its own.",
        since="2.1",
    ),
    Key(
        "MODEL.exported",
        "",
        Text("a .onnx, .xml or .pt2 file, or empty"),
        "A file of `mit-semseg export` that evaluation, prediction and the Python API use in place of "
        "checkpoints.",
        is_path=True,
        since="2.1",
    ),
    Key(
        "MODEL.packed",
        "",
        Text("a file of mit-semseg pack, or empty"),
        "A file of `mit-semseg pack` that evaluation, prediction, export and the Python API use in place of "
        "checkpoints.",
        is_path=True,
        since="2.1",
    ),
    Key(
        "TRAIN.batch_size_per_gpu",
        2,
        Integer(1, 4096),
        "Images in a sub-batch, which is what one device processes at a time.",
    ),
    Key(
        "TRAIN.num_epoch",
        20,
        Integer(1),
        "Number of epochs.",
    ),
    Key(
        "TRAIN.start_epoch",
        0,
        Integer(0),
        "Resume after this epoch, from its checkpoints in `DIR`. 0: from the start.",
    ),
    Key(
        "TRAIN.resume",
        "off",
        Text("off, auto, a state file, or the folder of a run", required=True),
        "`off`: start a new run. `auto`: resume the run in `DIR`, or start one. A path: resume that run.",
        words=MappingProxyType({False: "off"}),  # YAML reads a bare off as False
        is_path=True,
    ),
    Key(
        "TRAIN.save_iters",
        1000,
        Integer(0),
        "Iterations between two saves of the training state. 0: save at the end of each epoch only.",
    ),
    Key(
        "TRAIN.keep_checkpoints",
        0,
        Integer(0),
        "Number of epochs, counted from the newest, whose checkpoints are kept. 0: all. The best checkpoint "
        "is always kept.",
    ),
    Key(
        "TRAIN.patience",
        0,
        Integer(0),
        "Stop after this many validations in a row without a better mean IoU. 0: never.",
    ),
    Key(
        "TRAIN.epoch_iters",
        5000,
        Integer(1),
        "Iterations per epoch, whatever the length of the list. An iteration is one update of the weights.",
    ),
    Key(
        "TRAIN.accumulate",
        1,
        Integer(1, 65536),
        "Sub-batches per device in an iteration, whose gradients are accumulated.",
    ),
    Key(
        "TRAIN.scale_rate",
        "none",
        Choice("none", "linear"),
        "What happens to the learning rates when a run resumes with more or fewer images in an iteration, "
        "because the number of devices has changed: `none` keeps them, `linear` multiplies them by images "
        "now / images in the first iteration.",
        since="2.1",
    ),
    Key(
        "TRAIN.loss",
        "cross_entropy",
        Text("a loss, or a sum of losses"),
        "A name in `mit_semseg.losses.LOSSES`, or a weighted sum: `cross_entropy + 0.5*dice`.",
    ),
    Key(
        "TRAIN.teachers",
        (),
        Paths(optional=True),
        "Trained models whose probabilities the loss `distillation` teaches, see training.md: folders of "
        "train.py, packed or exported models, or names of shipped configs.",
        is_path=True,
        since="2.1",
    ),
    Key(
        "TRAIN.class_weights",
        "",
        ClassWeights(),
        "Weights of the classes in the loss, computed from the training labels or given as one number per "
        "class. Empty: all classes count alike.",
    ),
    Key(
        "TRAIN.enet_constant",
        1.02,
        Number(above=1),
        "c in 1 / ln(c + share of the pixels), the weight of a class. Only with `class_weights enet`.",
    ),
    Key(
        "TRAIN.label_smoothing",
        0.0,
        Number(at_least=0, below=1),
        "Share of the target that is spread evenly over all classes. Only with the loss `cross_entropy`.",
    ),
    Key(
        "TRAIN.focal_gamma",
        2.0,
        Number(at_least=0, at_most=100),
        "Exponent of the loss `focal`.",
    ),
    Key(
        "TRAIN.ohem_threshold",
        0.7,
        Number(above=0, at_most=1),
        "The loss `ohem` counts pixels whose true class has a lower probability than this.",
    ),
    Key(
        "TRAIN.ohem_min_kept",
        0.0625,
        Number(at_least=0, at_most=1),
        "Share of the pixels, the hardest ones, that the loss `ohem` always counts.",
    ),
    Key(
        "TRAIN.label_resolution",
        "stride",
        Choice("stride", "full"),
        "Where scores and labels are compared: `stride` (at the stride of the decoder), or `full` (at full "
        "resolution, after upsampling the scores).",
    ),
    Key(
        "TRAIN.optim",
        "SGD",
        Text("the name of an optimizer"),
        "A name in `mit_semseg.optim.OPTIMIZERS` or `torch.optim`.",
    ),
    Key(
        "TRAIN.lr_encoder",
        0.02,
        Number(at_least=0, at_most=1e30),
        "Base learning rate of the encoder, which `lr_schedule` scales. 0: the weights do not change.",
    ),
    Key(
        "TRAIN.lr_decoder",
        0.02,
        Number(at_least=0, at_most=1e30),
        "Base learning rate of the decoder, which `lr_schedule` scales. 0: the weights do not change.",
    ),
    Key(
        "TRAIN.lr_schedule",
        "poly",
        Choice("poly", "cosine", "step", "constant"),
        "How the learning rates change over the whole run.",
    ),
    Key(
        "TRAIN.lr_pow",
        0.9,
        Number(at_least=0),
        "Power of the polynomial decay to 0. Only with `lr_schedule poly`.",
    ),
    Key(
        "TRAIN.lr_min",
        0.0,
        Number(at_least=0, at_most=1e30),
        "Learning rate at the end of the run. Only with `lr_schedule cosine`.",
    ),
    Key(
        "TRAIN.lr_milestones",
        (),
        ListOf(Number(above=0), optional=True),
        "Epochs, such as (12, 16.5), after which the learning rate drops. Only with `lr_schedule step`.",
    ),
    Key(
        "TRAIN.lr_step_factor",
        0.1,
        Number(above=0, below=1),
        "Factor that the learning rate is multiplied by at each milestone. Only with `lr_schedule step`.",
    ),
    Key(
        "TRAIN.warmup_iters",
        0,
        Integer(0),
        "Iterations during which the learning rate rises to that of the schedule. 0: no warm-up.",
    ),
    Key(
        "TRAIN.warmup_factor",
        0.001,
        Number(at_least=0, at_most=1),
        "Share of the schedule's learning rate at the start of the warm-up.",
    ),
    Key(
        "TRAIN.lr_after_warmup",
        False,
        Switch(),
        "Begin `lr_schedule poly` and `cosine` when the warm-up ends. False: when it begins.",
        since="2.1",
    ),
    Key(
        "TRAIN.encoder_delay",
        0,
        Integer(0),
        "Iterations at the start in which the learning rate of the encoder is 0. Its schedule and warm-up "
        "begin after them.",
        since="2.1",
    ),
    Key(
        "TRAIN.encoder_warmup_iters",
        0,
        Integer(0),
        "Iterations of the warm-up of the encoder. 0: those of `warmup_iters`.",
        since="2.1",
    ),
    Key(
        "TRAIN.mask_annealing",
        (),
        ListOf(Number(at_least=0, at_most=1), optional=True),
        "Where the masks of the attention are lifted: for each joint block of the decoder `eomt`, the shares "
        "of the training at the beginning and at the end. Empty: in equal parts, block by block.",
        since="2.1",
    ),
    Key(
        "TRAIN.clip_grad_norm",
        0.0,
        Number(at_least=0),
        "Upper limit of the norm of the gradient, over encoder and decoder together. 0: no limit.",
    ),
    Key(
        "TRAIN.beta1",
        0.9,
        Number(at_least=0, below=1),
        "Momentum of SGD, beta1 of Adam and AdamW.",
    ),
    Key(
        "TRAIN.weight_decay",
        1e-4,
        Number(at_least=0, at_most=1000),
        "Weight decay of convolutions and linear layers. Biases, norms and position embeddings have none.",
    ),
    Key(
        "TRAIN.layer_decay",
        1.0,
        Number(above=0, at_most=1),
        "Factor on the learning rate from each block of the encoder to the block before it. The last one has "
        "`TRAIN.lr_encoder`; with 1, all have. For `mit_*`, `swin_*`, `convnext_*`, `dinov2_*`, `dinov3_*` "
        "and the vision transformers of timm.",
        since="2.1",
    ),
    Key(
        "TRAIN.deep_sup_scale",
        0.4,
        Number(at_least=0, at_most=1000),
        "Weight of the auxiliary loss of decoders with deep supervision (`*_deepsup`).",
    ),
    Key(
        "TRAIN.fix_bn",
        False,
        Switch(),
        "True means the same as `freeze bn`, and can be combined with `freeze encoder`.",
    ),
    Key(
        "TRAIN.freeze",
        "none",
        Choice("none", "encoder", "bn"),
        "Parts that training does not change: `encoder` (its weights and statistics), `bn` (the weights and "
        "statistics of every BatchNorm), or `none`.",
    ),
    Key(
        "TRAIN.amp",
        "none",
        Choice("auto", "none", "bf16", "fp16"),
        "Number format of the network: `none` (float32), `bf16` or `fp16` (mixed precision: faster, less "
        "accurate), or `auto` (the format that is fast on the device).",
    ),
    Key(
        "TRAIN.channels_last",
        "auto",
        Choice("auto", "True", "False"),
        "Memory layout of feature maps: channels-last (True), NCHW (False), or `auto` (see "
        "docs/training.md).",
    ),
    Key(
        "TRAIN.autotune",
        False,
        Switch(),
        "Time the number formats and memory layouts on the first sub-batches and use the fastest, instead "
        "of `amp` and `channels_last`.",
    ),
    Key(
        "TRAIN.compile",
        False,
        Switch(),
        "Compile encoder and decoder with torch.compile, which takes minutes at the start.",
    ),
    Key(
        "TRAIN.checkpoint_activations",
        False,
        Switch(),
        "Recompute the encoder's feature maps in the backward pass instead of keeping them, which saves "
        "memory.",
    ),
    Key(
        "TRAIN.ema_decay",
        0.0,
        Number(at_least=0, below=1),
        "Decay of the exponential moving average of the weights, such as 0.9999. 0: no average.",
    ),
    Key(
        "TRAIN.parallel",
        "ddp",
        Choice("ddp", "fsdp", "dp"),
        "How several devices are used: `ddp` (one process per device, each with the whole model), `fsdp` "
        "(the same, but each keeps only its share of weights, gradients and optimizer state, for large "
        "models), or `dp` (one process with a replica on each device).",
    ),
    Key(
        "TRAIN.timeout",
        600.0,
        Number(at_least=1, at_most=604800),
        "Seconds after which communication between processes counts as failed; a week at most.",
    ),
    Key(
        "TRAIN.workers",
        -1,
        Integer(-1),
        "Loader processes per device, at most one per CPU core. 0: load in the training process. -1 or "
        "`auto`: a suitable number.",
        words=MappingProxyType({"auto": -1}),
    ),
    Key(
        "TRAIN.disp_iter",
        20,
        Integer(1),
        "Iterations between two progress lines.",
    ),
    Key(
        "TRAIN.tensorboard",
        True,
        Switch(),
        "False: no `tensorboard` among the `trackers`.",
    ),
    Key(
        "TRAIN.trackers",
        ("tensorboard",),
        Names(among=("tensorboard", "wandb", "mlflow"), optional=True),
        "Where a run reports its config, scores, sample predictions and checkpoints, see docs/tracking.md.",
        since="2.1",
    ),
    Key(
        "TRAIN.seed",
        304,
        Integer(0),
        "Seed of the data order, the augmentation and the initial weights.",
    ),
    Key(
        "VAL.batch_size",
        1,
        Integer(1),
        "Images of one width and height that are scored together.",
    ),
    Key(
        "VAL.every",
        0,
        Integer(0),
        "Epochs between two validations during training. 0: no validation.",
    ),
    Key(
        "VAL.max_images",
        0,
        Integer(0),
        "Number of images to validate on during training, drawn by the seed. 0: all.",
    ),
    Key(
        "VAL.visualize",
        False,
        Switch(),
        "Write a picture of image, truth and prediction for every image that is evaluated.",
    ),
    Key(
        "VAL.checkpoint",
        "",
        Text("the end of a checkpoint's name, or empty"),
        "Checkpoint to evaluate, such as `epoch_20.pth` or `best.pth`. Empty: the newest epoch in `DIR`.",
    ),
    Key(
        "VAL.resume",
        False,
        Switch(),
        "Resume an evaluation that did not finish. The result is the same as without the interruption.",
    ),
    Key(
        "VAL.boundary_iou",
        False,
        Switch(),
        "Also compute the Boundary IoU, which measures how well contours are met.",
    ),
    Key(
        "VAL.calibration",
        False,
        Switch(),
        "Also compute the expected calibration error, which measures how far probabilities can be trusted.",
    ),
    Key(
        "VAL.threshold",
        "none",
        Choice("none", "auto"),
        "`auto`: for two classes, find the threshold with the best F1 of the second one, and show the curve "
        "in the report. Apply it with `INFERENCE.threshold`. `none`: do not.",
        since="2.1",
    ),
    Key(
        "VAL.result",
        "",
        Text("a folder, or empty"),
        "Folder for the scores, the report and the pictures. Empty: `DIR/result`.",
        is_path=True,
    ),
    Key(
        "TEST.batch_size",
        1,
        Choice(1),
        "Always 1: images are segmented one at a time.",
    ),
    Key(
        "TEST.checkpoint",
        "",
        Text("the end of a checkpoint's name, or empty"),
        "Checkpoint to predict with, as `VAL.checkpoint`. If `DIR` has none, a published model is "
        "downloaded.",
    ),
    Key(
        "TEST.result",
        "./",
        Text("a folder"),
        "Folder for the outputs.",
        is_path=True,
    ),
    Key(
        "TEST.output",
        ("side_by_side",),
        Names(),
        "What to write for each input: `side_by_side`, `overlay`, `labels`, `scores`, `html`; "
        "for labelling tools `coco`, `cvat`, `labelme`; for GeoTIFFs also polygons, `geojson` or `gpkg`.",
    ),
    Key(
        "TEST.legend",
        False,
        Switch(),
        "Draw the names and colours of the classes below each picture.",
    ),
    Key(
        "INFERENCE.amp",
        "none",
        Choice("none", "bf16"),
        "Number format of the network: `none` (float32), or `bf16` (faster, slightly less accurate).",
        formerly="VAL.amp",
    ),
    Key(
        "INFERENCE.flip",
        False,
        Switch(),
        "Average the scores with those of the mirror image.",
        formerly="VAL.flip",
    ),
    Key(
        "INFERENCE.threshold",
        0.5,
        Number(above=0, below=1),
        "With two classes: the probability from which a pixel belongs to the second one. `VAL.threshold` "
        "finds the best.",
        since="2.1",
    ),
    Key(
        "INFERENCE.tile",
        0,
        Integer(0),
        "Side in pixels of the tiles that larger images are cut into. 0: chosen for images beyond 3 "
        "megapixels; 512 for scenes.",
        formerly="VAL.tile",
    ),
    Key(
        "INFERENCE.overlap",
        0,
        Integer(0),
        "Pixels that neighbouring tiles share, fewer than `tile`. 0: a fifth of the tile.",
        formerly="VAL.overlap",
    ),
)

BY_NAME = {key.name: key for key in KEYS}
RENAMED = {key.formerly: key.name for key in KEYS if key.formerly}
"""Former names, with the current ones."""


def get_defaults() -> CfgNode:
    """A new, mutable config tree that holds the defaults."""
    tree = CfgNode()
    for key in KEYS:
        section = tree.setdefault(key.section, CfgNode()) if key.section else tree
        section[key.leaf] = key.default
    for old, new in RENAMED.items():
        tree.register_renamed_key(old, new)  # the tree's own merge_from_file and merge_from_list refuse them
    return tree


def value_of(tree: CfgNode, key: Key) -> Any:
    """The value of a key in a config tree."""
    return tree[key.section][key.leaf] if key.section else tree[key.leaf]


def set_value(tree: CfgNode, key: Key, value: Any) -> None:
    """Set the value of a key in a config tree, which must be mutable."""
    (tree[key.section] if key.section else tree)[key.leaf] = value


def nearest(name: str) -> str:
    """The key that a misspelt name most likely means, or "".

    The same leaf in another section comes first, then the most similar name, then the most similar leaf.
    """
    leaves = [key.leaf.lower() for key in KEYS]
    by_leaf = {leaf: key.name for leaf, key in zip(leaves, KEYS, strict=True) if leaves.count(leaf) == 1}
    by_name = {key.name.lower(): key.name for key in KEYS}
    leaf = name.rpartition(".")[2].lower()
    near = [by_leaf[leaf]] if leaf in by_leaf else []
    near += [by_name[match] for match in difflib.get_close_matches(name.lower(), by_name, n=1)]
    near += [by_leaf[match] for match in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.75)]
    return near[0] if near else ""
