"""Every config key, its default, its meaning. The only definition."""

from yacs.config import CfgNode

_C = CfgNode()
_C.DIR = "ckpt/ade20k-resnet50dilated-ppm_deepsup"  # where a run's checkpoints, history and results go

_C.DATASET = CfgNode()
_C.DATASET.root_dataset = "./data/"  # folder that the paths in the lists are relative to
_C.DATASET.list_train = "./data/training.odgt"  # one JSON a line: fpath_img, fpath_segm, width, height
_C.DATASET.list_val = "./data/validation.odgt"
_C.DATASET.classes = ""  # CSV with names and colours; "" is ADE20K's for 150 classes, else numbered classes
_C.DATASET.num_class = 150  # 2 or more; label value k in a PNG is class k-1, 0 is ignored
_C.DATASET.imgSizes = (300, 375, 450, 525, 600)  # short edges in pixels: one drawn a sub-batch, all in tests
_C.DATASET.imgMaxSize = 1000  # upper limit of the long edge, in pixels
_C.DATASET.padding_constant = 8  # image sides are rounded up to a multiple of it; a multiple of the next
_C.DATASET.segm_downsampling_rate = 8  # stride of the decoder's output, at which training compares labels
_C.DATASET.random_flip = True  # mirror each training image with probability 1/2
_C.DATASET.label_offset = 1  # value of the first class in label files, 0 or more; smaller ones are ignored
_C.DATASET.ignore_label = -1  # one more value to ignore, such as 255; -1 for none
_C.DATASET.augment = "published"  # published (sizes and flip), crop, or module:function of your own
_C.DATASET.crop_size = (512, 512)  # augment crop: height and width in pixels
_C.DATASET.crop_max_share = 0.75  # augment crop: of one class in a crop, above 0; 1 is no limit
_C.DATASET.scale_range = (0.5, 2.0)  # augment crop: of a size drawn from imgSizes; above 0
_C.DATASET.on_error = "raise"  # unusable files in training: raise, or skip (1 % of the list, each process)

_C.MODEL = CfgNode()
_C.MODEL.arch_encoder = "resnet50dilated"  # a name in mit_semseg.models.builder.ENCODERS, or timm/NAME
_C.MODEL.arch_decoder = "ppm_deepsup"  # a name in mit_semseg.models.builder.DECODERS
_C.MODEL.pretrained = True  # start the encoder from ImageNet's weights; False: random, nothing downloaded
_C.MODEL.weights_encoder = ""  # a checkpoint to start from, or package:NAME, instead of ImageNet's
_C.MODEL.weights_decoder = ""  # a checkpoint to start from; "" is random
_C.MODEL.reset_classifier = False  # of weights_decoder, of any class count, take all but the classifier
_C.MODEL.fc_dim = 2048  # channels of the encoder's last map; not read for timm's, which tell it
_C.MODEL.output_stride = 0  # of the last map of a timm encoder: 8, 16, 32; 0 is the model's own
_C.MODEL.decoder_dim = 0  # channels of the decoder's inner maps; 0 is the published width
_C.MODEL.decoder_dropout = -1.0  # of channels before the classifier, below 1; -1 is the published one
_C.MODEL.decoder_norm = "batch"  # batch (synchronized), or group: GroupNorm, which any batch size suits

_C.TRAIN = CfgNode()
_C.TRAIN.batch_size_per_gpu = 2  # images in a sub-batch, 1 or more
_C.TRAIN.num_epoch = 20  # the epoch to stop after
_C.TRAIN.start_epoch = 0  # continue behind this epoch's checkpoint in DIR
_C.TRAIN.resume = "off"  # auto: where DIR's state stands; a state file or a run's folder; off: a new run
_C.TRAIN.save_iters = 1000  # iterations between two saved states; 0: only at the ends of epochs
_C.TRAIN.keep_checkpoints = 0  # newest epochs whose checkpoints stay in DIR; 0: all; the best stays anyway
_C.TRAIN.patience = 0  # validations without a better mean IoU that end the training; 0: none do
_C.TRAIN.epoch_iters = 5000  # iterations of an epoch, whatever the length of the list
_C.TRAIN.accumulate = 1  # sub-batches a device between two updates; an iteration is an update; 1 or more
_C.TRAIN.loss = "cross_entropy"  # a sum of names in mit_semseg.losses.LOSSES: cross_entropy + 0.5*dice
_C.TRAIN.class_weights = ""  # median_frequency, enet, a list of num_class numbers; "": classes count alike
_C.TRAIN.enet_constant = 1.02  # c of class_weights enet, 1 / ln(c + share of the pixels); above 1
_C.TRAIN.label_smoothing = 0.0  # share of cross_entropy's target that goes to all classes alike; below 1
_C.TRAIN.focal_gamma = 2.0  # power of focal; 0 or more
_C.TRAIN.ohem_threshold = 0.7  # ohem takes pixels whose class has a lower probability; above 0, up to 1
_C.TRAIN.ohem_min_kept = 0.0625  # share of the pixels that ohem takes at least; 0 to 1
_C.TRAIN.label_resolution = "stride"  # compare at the decoder's stride, or full: enlarge its scores
_C.TRAIN.optim = "SGD"  # a name in mit_semseg.optim.OPTIMIZERS, or of torch.optim
_C.TRAIN.lr_encoder = 0.02  # learning rate at iteration 0; 0 or more
_C.TRAIN.lr_decoder = 0.02
_C.TRAIN.lr_schedule = "poly"  # over the whole run: poly, cosine, step or constant
_C.TRAIN.lr_pow = 0.9  # lr_schedule poly: power of the polynomial decay to 0
_C.TRAIN.lr_min = 0.0  # lr_schedule cosine: the rate at the end; 0 or more
_C.TRAIN.lr_milestones = ()  # lr_schedule step: epochs, such as (12, 16.5), after which the rate drops
_C.TRAIN.lr_step_factor = 0.1  # lr_schedule step: what the rate is multiplied by; above 0, below 1
_C.TRAIN.warmup_iters = 0  # iterations in which the rate rises to the schedule's
_C.TRAIN.warmup_factor = 0.001  # share of the schedule's rate that a warm-up begins with; 0 to 1
_C.TRAIN.clip_grad_norm = 0.0  # limit of the norm of the whole gradient; 0: none
_C.TRAIN.beta1 = 0.9  # momentum of SGD, beta1 of Adam and AdamW; from 0 to below 1
_C.TRAIN.weight_decay = 1e-4  # of convolution and linear weights; biases, norms, positions are not decayed
_C.TRAIN.deep_sup_scale = 0.4  # weight of the auxiliary loss of *_deepsup decoders
_C.TRAIN.fix_bn = False  # the same as freeze bn, which it may be combined with
_C.TRAIN.freeze = "none"  # encoder: its weights and statistics; bn: those of every BatchNorm; none
_C.TRAIN.amp = "none"  # number format: none (float32), bf16 or fp16, less exact; auto: what is fast here
_C.TRAIN.channels_last = "auto"  # memory layout of maps: True, False (NCHW), auto: see docs/training.md
_C.TRAIN.autotune = False  # time both on the first sub-batches and take the fastest, in place of the two
_C.TRAIN.compile = False  # compile encoder and decoder with torch.compile, which takes minutes at the start
_C.TRAIN.checkpoint_activations = (
    False  # compute the encoder's maps twice instead of keeping them: less memory
)
_C.TRAIN.ema_decay = 0.0  # of the average of the weights, such as 0.9999; 0: no average; below 1
_C.TRAIN.parallel = "ddp"  # several devices: a process each (ddp), or one process with a replica on each (dp)
_C.TRAIN.timeout = 600.0  # seconds until an exchange between processes counts as failed; 1 or more
_C.TRAIN.workers = -1  # loader processes a device, at most one a core; 0: none; -1 or auto: as many as fit
_C.TRAIN.disp_iter = 20  # iterations between two progress lines
_C.TRAIN.tensorboard = True  # write scalars, sample predictions and the config to DIR/tensorboard
_C.TRAIN.seed = 304  # of the data order, the augmentation and the initial weights

_C.VAL = CfgNode()
_C.VAL.batch_size = 1  # images scored together, 1 or more, where the list gives them one width and height
_C.VAL.every = 0  # in training: epochs between two validations; 0: none
_C.VAL.max_images = 0  # in training: images of the list to validate on, drawn by the seed; 0: all
_C.VAL.visualize = False  # write image | truth | prediction for every validation image
_C.VAL.checkpoint = ""  # such as epoch_20.pth; "" is the newest epoch in DIR
_C.VAL.resume = False  # go on with what an evaluation that did not end has scored, to the same result
_C.VAL.boundary_iou = False  # also Boundary IoU: how well contours are met
_C.VAL.calibration = False  # also the expected calibration error: how far probabilities can be trusted
_C.VAL.result = ""  # folder for scores, report and pictures; "" is the folder result in DIR
_C.VAL.amp = "none"  # arithmetic of eval and test: none (float32), or bf16, which is faster and less exact
_C.VAL.flip = False  # eval and test: average with the mirror image, too
_C.VAL.tile = 0  # side of tiles that larger images are cut into; 0: chosen, beyond 3 megapixels
_C.VAL.overlap = 0  # pixels that neighbouring tiles share, below VAL.tile; 0: chosen, a fifth

_C.TEST = CfgNode()
_C.TEST.batch_size = 1  # only 1
_C.TEST.checkpoint = ""  # as VAL.checkpoint; with neither, a published model's checkpoint is downloaded
_C.TEST.result = "./"  # folder for what TEST.output names
_C.TEST.output = ("side_by_side",)  # one or several of side_by_side, overlay, labels, scores, html
_C.TEST.legend = False  # names and colours of the classes, drawn below pictures


def get_defaults() -> CfgNode:
    """A fresh, mutable copy of the default tree."""
    return _C.clone()
