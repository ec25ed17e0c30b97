"""What crosses the wire, as PROTOCOLS part 1 says: one structure, one file per encoding.

Both sides import this package, the server to read requests and the clients to write them, so it
needs neither a web framework nor a runtime.
"""
