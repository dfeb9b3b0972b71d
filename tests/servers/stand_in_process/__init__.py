"""The process of the S3 stand-in. Its modules use nothing else of this library, so that it starts in a blink."""
