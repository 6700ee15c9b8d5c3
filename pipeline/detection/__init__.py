"""Objects that a detector finds: blocks, suppression and pasting. No torch here."""
