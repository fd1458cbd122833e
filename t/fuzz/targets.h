/* All fuzz targets: FUZZ_TARGET(NAME) is fuzz_NAME of NAME.c.  Makefile.am lists them, too. */
FUZZ_TARGET(http)
FUZZ_TARGET(json)
FUZZ_TARGET(resp)
FUZZ_TARGET(proxy)
FUZZ_TARGET(config)
FUZZ_TARGET(record)
FUZZ_TARGET(journal)
FUZZ_TARGET(snapshot)
