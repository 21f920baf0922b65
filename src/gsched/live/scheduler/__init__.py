"""The inference scheduler: tiers, absolute deadlines, dynamic batching, admission control, preemption.

`engine` decides and knows neither clocks nor I/O; `server` runs it over gRPC, `twin` in virtual time. Both therefore
decide alike.
"""
