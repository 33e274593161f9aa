"""Everything between jangin and a teacher model."""
