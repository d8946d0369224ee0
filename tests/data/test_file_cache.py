"""Copies of remote content: a bounded folder that processes share."""

import errno
import multiprocessing
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mit_semseg.data.file_cache import FileCache, default_folder
from mit_semseg.errors import UserError

END = 12  # bytes after the content of each copy


def size_of(folder):
    """The bytes of all files in the subfolders of a cache."""
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def put_many(folder, limit, first, count, most):
    """Put copies of 1,000 bytes, and note the largest size that the folder has had."""
    cache, largest = FileCache(folder, limit), 0
    for number in range(first, first + count):
        name = f"https://host/{number}"
        content = number.to_bytes(4, "big") * 250
        cache.put(name, content)
        assert cache.get(name) in (content, None)  # the other process may have removed it
        try:
            largest = max(largest, size_of(folder))
        except FileNotFoundError:  # removed while it was counted
            continue
    most.put(largest)


def test_a_copy_is_read_back_by_its_name(tmp_path):
    cache = FileCache(tmp_path / "cache", 10**6)
    assert cache.get("s3://a/b") is None
    cache.put("s3://a/b", b"content")
    cache.put("s3://a/c", b"")
    assert (cache.get("s3://a/b"), cache.get("s3://a/c"), cache.get("s3://a/d")) == (b"content", b"", None)
    cache.remove("s3://a/b")
    cache.remove("s3://a/b")
    assert cache.get("s3://a/b") is None


def test_the_copy_that_was_not_read_for_the_longest_time_is_removed_first(tmp_path):
    cache = FileCache(tmp_path, 4 * (100 + END))
    for name in "abcd":
        cache.put(name, bytes(100))
        time.sleep(0.02)
    assert cache.get("a") is not None
    time.sleep(0.02)
    cache.put("e", bytes(100))  # 90 % of the limit are 3 copies
    assert [name for name in "abcde" if cache.get(name)] == ["a", "d", "e"]


def test_two_processes_keep_the_folder_within_its_limit(tmp_path):
    context = multiprocessing.get_context("fork")
    limit = 20 * (1000 + END)
    most = context.Queue()
    both = [context.Process(target=put_many, args=(tmp_path, limit, 80 * k, 80, most)) for k in (0, 1)]
    for process in both:
        process.start()
    largest = [most.get(timeout=60) for _ in both]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert 0 < max(largest) <= limit
    assert 0.5 * limit < size_of(tmp_path) <= limit
    assert not list(tmp_path.glob("*/*.part"))


def test_content_above_the_limit_is_not_kept_and_nothing_is_kept_without_one(tmp_path):
    FileCache(tmp_path / "none", 0).put("a", b"")
    assert not (tmp_path / "none").exists()
    cache = FileCache(tmp_path, 1000)
    cache.put("small", bytes(100))
    cache.put("large", bytes(1000))
    assert (cache.get("small"), cache.get("large")) == (bytes(100), None)


@pytest.mark.parametrize("damage", [b"", b"content", b"contemt" + bytes(END), bytes(5)])
def test_a_damaged_copy_counts_as_none(tmp_path, damage):
    cache = FileCache(tmp_path, 1000)
    cache.put("a", b"content")
    next(tmp_path.glob("*/*")).write_bytes(damage)
    assert cache.get("a") is None


def test_other_files_in_the_folder_stay(tmp_path):
    mine = [tmp_path / "thesis.txt", tmp_path / "ab" / "thesis.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x" * 500)
        os.utime(path, (0, 0))
    cache = FileCache(tmp_path, 300)
    for number in range(10):
        cache.put(str(number), bytes(100))
    assert all(path.exists() for path in mine)


def test_what_a_killed_process_left_is_removed_when_room_is_needed(tmp_path):
    cache = FileCache(tmp_path, 1000)
    cache.put("a", bytes(300))
    copy = next(tmp_path.glob("*/*"))
    part = copy.with_name(f"{copy.name[:-1]}x.part")
    part.write_bytes(bytes(400))
    (tmp_path / ".bytes").unlink()  # the sum is counted again
    cache.put("b", bytes(400))
    assert not part.exists()
    assert cache.get("a") is not None


def test_a_full_disk_names_the_key_and_leaves_no_part(tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(path, data):
        write(path, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        UserError,
        match=re.escape(str(tmp_path)) + r" cannot be written: No space left on device\..* DATASET\.cache to",
    ):
        FileCache(tmp_path, 1000).put("a", b"content")
    assert not list(tmp_path.glob("*/*"))


def test_a_file_in_place_of_the_folder_names_the_key(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .* set DATASET\.cache to another folder"):
        FileCache(tmp_path / "cache", 1000).put("a", b"content")


def test_the_keys_give_folder_and_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "hub" / "mit_semseg_data"
    assert FileCache.of(None) == FileCache(default_folder(), 20 * 10**9)
    assert FileCache.of(SimpleNamespace(cache="", cache_gb=0.5)) == FileCache(default_folder(), 5 * 10**8)
    assert FileCache.of(SimpleNamespace(cache="/c", cache_gb=1)) == FileCache(Path("/c"), 10**9)


def test_the_folder_may_be_deleted_while_a_copy_is_written(tmp_path, monkeypatch):
    cache = FileCache(tmp_path / "cache", 10**6)
    times = []
    total = FileCache._total

    def deleted(self):
        if not times:
            times.append(shutil.rmtree(self.folder))
        return total(self)

    monkeypatch.setattr(FileCache, "_total", deleted)
    cache.put("a", b"content")
    assert len(times) == 1
    assert cache.get("a") == b"content"


def test_a_sum_below_zero_is_not_believed(tmp_path):
    cache = FileCache(tmp_path / "cache", 5000)
    cache.put("a", bytes(1000))
    (cache.folder / ".bytes").write_text("-1000000", encoding="ascii")
    for number in range(10):
        cache.put(str(number), bytes(1000))
    assert size_of(cache.folder) <= 5000
