"""The outside: records, ports, codecs, and the adapters kafka, files and memory."""
