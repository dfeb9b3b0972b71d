"""Arrays on web servers, read-only: `https://host/path.zarr`."""
