"""What jobs have from earlier runs: outputs that are still good, and names that they keep."""

from collections.abc import Mapping, Sequence

from ..data.shards import state_of_content
from ..inference.fingerprint import Fingerprint, difference
from ..runtime.output_paths import plain_name
from ..runtime.paths import Resolver, length_before
from .collected import Parts
from .jobs import Jobs
from .manifest import Made, Recorded, State
from .own_files import is_of_others, is_same
from .tools.labelme import is_untouched


def look_up(
    jobs: Jobs,
    recorded: Recorded,
    parts: Mapping[str, Parts | set[str]],
    fingerprint: Fingerprint,
    settled: bytearray,
) -> None:
    """Set what jobs have from earlier runs.

    Args:
        parts: the keys of the parts that exist, by the outputs with a file for all inputs.
        settled: by the number of an output, whether it keeps its earlier file; to be set.
    """
    real, length = Resolver(), length_before(jobs.folder)
    for k in range(len(jobs)):
        kind = jobs.inputs.kind(k)
        old = recorded.of(jobs.inputs.identity(k, real)) if kind != "camera" else {}
        if kind == "image" and "labelme" in jobs.slots.suffixes[kind]:
            path = jobs.labelme_path(k)
            jobs.kept[k] = path.exists() and not is_same(old.get("labelme"), path) and not is_untouched(path)
        files = dict(jobs.files(k))
        for output, suffix in files.items():
            earlier = old.get(output)
            if earlier is not None and earlier.path is not None and not is_of_others(earlier):
                number, name = jobs.slots.number(k, output), str(earlier.path)[length:]
                settled[number] = 1
                if name != plain_name(jobs.relative(k), suffix):
                    jobs.earlier.add(number, name)
        if k in jobs.problems:
            continue
        if not files and not parts:
            jobs.done[k] = True
        elif old:
            for output, keys in parts.items():
                if output in old:
                    key = jobs.key(output, k)
                    if key not in keys or old[output].key not in (key, None):
                        del old[output]
            state = state_of_content(jobs.inputs.paths[k])
            if reason := _reason_to_repeat(old, [*files, *parts], state, fingerprint):
                jobs.again[reason] += 1
                continue
            jobs.done[k] = True
            for made in old.values():
                if made.problem:
                    jobs.problems[k] = made.problem


def _reason_to_repeat(
    old: Mapping[str, Made], outputs: Sequence[str], state: State, fingerprint: Fingerprint
) -> str:
    """Why inputs such as this are done again, as a sentence; "" if all its outputs are as they would be made.

    Args:
        old: the recorded outputs.
        state: of the input.
    """
    made = [old[name] for name in outputs if name in old]
    for each in made:
        if each.fingerprint is None or each.source is None:
            return "an earlier release has made their outputs, without a record of how"
        if each.fingerprint != fingerprint and (change := difference(each.fingerprint, fingerprint)):
            return f"their outputs were made in another way ({change})"
    if any(each.source != state for each in made):
        return "they have changed since"
    if len(made) < len(outputs) or not all(each.is_intact() for each in made):
        return "outputs of them are missing, or have changed since"
    return ""
