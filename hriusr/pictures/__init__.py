"""Picture and video files of every kind: read as rows in flat memory, written whole or not at all."""
