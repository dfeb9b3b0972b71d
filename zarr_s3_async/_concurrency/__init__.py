"""Everything that schedules: the only package that creates tasks or threads."""
