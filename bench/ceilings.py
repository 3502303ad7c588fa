"""What the machine itself can do, in the same run: the disk by the best of fio's ways to write, and plain writes and reads, copies and checksums of as many
bytes by as many threads (raw_bench)."""
import itertools

from runner import DIR, Program

WAYS = list(itertools.product(("psync", "io_uring"), ("256k", "1m", "8m"), ("direct", "buffered")))


def fio_name(files, way):
    return ".".join(("fio", str(files), *way))


def fio(files, threads, data_bytes):
    """A program for each way to write so many bytes to so many files, by a job a thread. What cannot run here (io_uring may be forbidden) is skipped."""
    each = data_bytes // threads >> 12 << 12
    where = [f"--directory={DIR}"] if files == threads else [f"--filename={DIR}/one", f"--offset_increment={each}"]
    for way in WAYS:
        engine, block, mode = way
        command = ["fio", "--name=write", *where, "--rw=write", f"--bs={block}", f"--size={each}", f"--numjobs={threads}", f"--ioengine={engine}",
                   f"--iodepth={8 if engine == 'io_uring' else 1}", "--direct=1" if mode == "direct" else "--end_fsync=1", "--output-format=json"]
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


def raw(build, place, threads, size, data_bytes, only=None):
    """Plain input and output of so many bytes to and from one file, as one rank has it, and passes over them."""
    command = [build / "bench/raw_bench", "--dir", DIR, "--threads", threads, "--bytes", data_bytes, *(["--only", only] if only else [])]
    return Program(raw_name(place, threads, size), command, place)
