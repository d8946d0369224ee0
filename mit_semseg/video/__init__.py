"""Video files and cameras: frames out of them, and frames with their timestamps and sound into a new file."""

from .read import Frame, Video, is_own_video, open_camera, open_video
from .write import VideoWriter

__all__ = ["Frame", "Video", "VideoWriter", "is_own_video", "open_camera", "open_video"]
