"""Which servers own which GPUs of a run."""

from collections.abc import Sequence

from gsched.errors import InputError


def shares(told: Sequence[int | None], gpus: int | None) -> list[int]:
    """Return how many GPUs of the run each server owns; the first servers are used first.

    Args:
        told: how many each server has; None where it does not say.
        gpus: how many the run uses; None for all.

    Raises:
        InputError: there are not as many, or nobody says how many there are.
    """
    known = [count for count in told if count is not None]
    if gpus is None:
        if len(known) < len(told):
            raise InputError.one("options", "--gpus", "is needed: a model server does not tell what it has", "give it")
        gpus = sum(known)
    if not gpus:
        raise InputError.one("", "model servers", "have no GPUs", "start them with --devices N")
    if len(known) < len(told):
        if gpus % len(told):
            raise InputError.one("options", f"--gpus {gpus}", f"is no multiple of {len(told)} servers", "correct it")
        return [gpus // len(told)] * len(told)
    if gpus > sum(known):
        raise InputError.one("options", f"--gpus {gpus}", f"is more than the servers have ({sum(known)})", "use fewer")
    owned, left = [], gpus
    for count in known:
        owned.append(min(count, left))
        left -= owned[-1]
    return owned


def gpus_per_server(owned: Sequence[int], wished: int | None) -> int | None:
    """Return the size of the cluster's servers: inside each of them, gangs can be formed.

    Args:
        owned: GPUs of each server that takes part.
        wished: a smaller size, where a model server has several machines; None for theirs.

    Raises:
        InputError: servers differ, but for a smaller last one, or the wish does not divide them.
    """
    if len(set(owned[:-1])) > 1 or owned[-1] > owned[0]:
        sizes = ", ".join(map(str, owned))
        message = f"own {sizes} GPUs; all but a smaller last one must own the same number"
        raise InputError.one("", "servers", message, "give the larger ones first, or start them alike")
    if wished is not None:
        if len(owned) > 1 and owned[0] % wished:
            message = f"does not divide the {owned[0]} GPUs of a server"
            raise InputError.one("options", f"--gpus-per-server {wished}", message, "leave it out or correct it")
        return wished
    return owned[0] if len(owned) > 1 else None
