#!/bin/sh
echo from windows
exit 0
