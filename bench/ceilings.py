"""What the machine itself can do, in the same run: the disk by the best of fio's ways to write, and plain writes and reads, copies and checksums of as many
bytes by as many threads (raw_bench)."""
import itertools

from runner import DIR, Program

WAYS = list(itertools.product(("psync", "io_uring"), ("256k", "1m", "8m"), ("direct", "buffered")))


def fio_name(files, way):
    return ".".join(("fio", str(files), *way))


def fio(files, mib):
    """A program for each way to write `mib` MiB to so many files, by a job each. What cannot run here (io_uring may be forbidden) is skipped."""
    for way in WAYS:
        engine, block, mode = way
        command = ["fio", "--name=write", f"--directory={DIR}", "--rw=write", f"--bs={block}", f"--size={mib // files}m", f"--numjobs={files}",
                   f"--ioengine={engine}", f"--iodepth={8 if engine == 'io_uring' else 1}",
                   "--direct=1" if mode == "direct" else "--end_fsync=1", "--output-format=json"]
        yield Program(fio_name(files, way), command, optional=True, read=fio_seconds)


def fio_seconds(output):
    """The time of the slowest job, its sync at the end included."""
    if any(job["error"] for job in output["jobs"]):
        raise ValueError(f"fio's error {output['jobs'][0]['error']}")
    return {"wall_s": max(job["job_runtime"] for job in output["jobs"]) / 1000}


def disk(samples, files):
    """(median seconds, program) of the best way to write, or (None, None)."""
    figures = [(samples.median(fio_name(files, way), "wall_s"), fio_name(files, way)) for way in WAYS]
    return min((figure for figure in figures if figure[0]), default=(None, None))


def raw_name(place, threads, size):
    return f"raw.{size}.{threads}.{place}"


def raw(build, place, threads, size, data_bytes):
    """Plain input and output of so many bytes to and from a file a thread."""
    command = [build / "bench/raw_bench", "--dir", DIR, "--files", threads, "--threads", threads, "--bytes", data_bytes]
    return Program(raw_name(place, threads, size), command, place)
