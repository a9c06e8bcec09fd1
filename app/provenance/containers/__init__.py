"""Where each file format keeps XMP and C2PA, walked over as a stream."""
