#!/bin/sh
echo ran without a run bit
