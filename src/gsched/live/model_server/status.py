"""The state of a model server in the words of its wire format."""

from gsched import __version__
from gsched.live.model_server import messages as wire
from gsched.live.model_server.devices import joined
from gsched.live.model_server.instances import Entry, Instance
from gsched.live.model_server.service import Service


def status_of(service: Service, host: str, port: int) -> wire.Status:
    """Return all that a service knows of itself; it is reached at this address."""
    return wire.Status(
        backend=service.backend.name,
        version=__version__,
        time_scale=service.time_scale,
        port=port,
        calls_waiting=service.turns.waiting,
        max_queue=service.max_queue,
        devices=[
            wire.DeviceState(
                name=name,
                memory_total_gb=device.memory_gb,
                memory_used_gb=device.used_gb,
                busy=service.turns.busy(name),
                instances=[instance.id for instance in service.instances.values() if name in instance.devices],
            )
            for name, device in service.devices.by_name.items()
        ],
        models=[model_state(service, entry) for entry in service.models.values() if entry.fetched],
        instances=[instance_state(instance, host, port) for instance in service.instances.values()],
    )


def model_state(service: Service, entry: Entry) -> wire.ModelState:
    """Return a model's."""
    name = entry.model.id
    instances = [instance.id for instance in service.instances.values() if instance.model.id == name]
    return wire.ModelState(
        model_name=name,
        model_type=entry.model.type,
        memory_gb=entry.model.memory_gb,
        status="served" if instances else "dram" if entry.in_dram else "disk",
        in_dram=entry.in_dram,
        instances=instances,
    )


def instance_state(instance: Instance, host: str, port: int) -> wire.InstanceState:
    """Return an instance's; it is called at this address."""
    endpoint = f"/standalone/call/{instance.id}"
    return wire.InstanceState(
        instance_id=instance.id,
        model_name=instance.model.id,
        model_type=instance.model.type,
        device=joined(instance.devices),
        devices=list(instance.devices),
        port=port,
        url=f"http://{f'[{host}]' if ':' in host else host}:{port}{endpoint}",
        endpoint=endpoint,
        created_at=instance.created_at,
        status=instance.state,
        memory_gb=instance.model.memory_gb,
        calls_served=instance.calls,
        calls_waiting=instance.waiting,
    )
