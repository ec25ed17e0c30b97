"""Robot side: client SDKs, realtime receiver, chunk handling, safety, recording, robot drivers."""
