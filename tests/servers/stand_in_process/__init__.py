"""The process of the S3 stand-in. Its modules import nothing else of this library, so that it starts fast."""
