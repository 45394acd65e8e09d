"""Pictures of any size through a network: tiles, the plan for memory, files and folders."""
