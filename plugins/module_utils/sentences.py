# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Errors as sentences: what was asked, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

try:
    from botocore import exceptions as boto
except ImportError:  # AnsibleAWSModule says it when the module starts
    boto = None

GIVE_CREDENTIALS = (
    "run `aws sso login` or `aws configure` and set AWS_PROFILE, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)

#: Error codes of AWS services that mean: these credentials are no good.
_BAD_KEYS = {"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}
_BAD_SIGNATURE = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation"}


class LightsoutError(Exception):
    """A sentence for the user, ready to print."""


def error_code(error: BaseException) -> str:
    """The code of an AWS error, empty for any other exception."""
    return (getattr(error, "response", None) or {}).get("Error", {}).get("Code", "")


def error_message(error: BaseException) -> str:
    """What AWS itself said, in one line."""
    text = (getattr(error, "response", None) or {}).get("Error", {}).get("Message") or str(error)
    return " ".join(text.split())


def is_denied(error: BaseException) -> bool:
    """True when the caller is known but may not do this."""
    return error_code(error) in _DENIED


def is_unreachable(error: BaseException) -> bool:
    """True when no answer came: the request may or may not have been carried out."""
    return boto is not None and isinstance(error, (boto.HTTPClientError, boto.ConnectionError))


def credentials_problem(error: BaseException) -> str | None:
    """One line on how to give credentials when that is what the error is about, else None."""
    if boto is None:
        return None
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return f"No AWS credentials were found: {GIVE_CREDENTIALS}."
    if isinstance(error, boto.ProfileNotFound):
        return f"AWS_PROFILE names a profile that does not exist ({error}): `aws configure list-profiles` lists them."
    if isinstance(error, (boto.SSOError, boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError)):
        return f"The AWS sign-in has ended ({error_message(error)}): run `aws sso login`."
    if isinstance(error, boto.CredentialRetrievalError):
        return f"AWS credentials could not be fetched ({error_message(error)}): {GIVE_CREDENTIALS}."
    code = error_code(error)
    if code in _EXPIRED:
        return "The AWS credentials have expired: run `aws sso login`, or export fresh keys with their session token."
    if code in _BAD_KEYS:
        return f"AWS does not know this access key ({code}): {GIVE_CREDENTIALS}."
    if code in _BAD_SIGNATURE:
        return (
            f"AWS refuses the signature ({code}): the secret key does not belong to the access key, or this computer's "
            "clock is wrong; compare it with `date -u`."
        )
    return None


def explain(error: BaseException, doing: str) -> str:
    """One line for any error that came while talking to AWS.

    Args:
        error: what was caught.
        doing: what was being done, for example "list the machines".
    """
    if isinstance(error, LightsoutError):
        return str(error)
    problem = credentials_problem(error)
    if problem:
        return problem
    if is_denied(error):
        action = getattr(error, "operation_name", "")
        # The rest of the message is an encoded blob, thousands of characters long.
        said = error_message(error).split(" Encoded authorization")[0]
        return f"AWS does not allow you to {doing} ({action}): {said} Ask for this permission."
    if is_unreachable(error):
        return (
            f"AWS did not answer when asked to {doing}: {error_message(error)}. Check the network, then run it again."
        )
    code = error_code(error)
    return f"Could not {doing}: {error_message(error)}" + (f" ({code})" if code else f" ({type(error).__name__})")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest known values, empty when none is near."""
    near = difflib.get_close_matches(value.lower(), sorted(set(known)), n=3, cutoff=0.6)
    if not near:
        return ""
    return f"; did you mean {' or '.join(repr(n) for n in near[:2])}?"


def numbered(problems: list[str]) -> str:
    """One problem as it is; several as a numbered list below a first line that counts them."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"{number}. {problem}" for number, problem in enumerate(problems, 1)]
    return "\n".join([f"{len(problems)} things are to be put right first (nothing was changed):", *lines])
