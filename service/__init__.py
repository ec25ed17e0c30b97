"""Serving: wire codecs, inference engine, HTTP and ZeroMQ doors, metrics."""
