"""What the shop refuses."""

from __future__ import annotations

from gateway.errors import GatewayError


class ProductNotFound(GatewayError):
    """There is no such product."""

    code = "product_not_found"
    status = 404


class NotInCart(GatewayError):
    """This product is not in the cart."""

    code = "not_in_cart"
    status = 404


class NotForSale(GatewayError):
    """This product cannot be bought at the moment."""

    code = "not_for_sale"
    status = 409


class CartLimit(GatewayError):
    """The cart cannot hold so much of one product."""

    code = "cart_limit"
    status = 409


class CartEmpty(GatewayError):
    """The cart is empty: there is nothing to buy."""

    code = "cart_empty"
    status = 409


class CartFull(GatewayError):
    """The cart cannot hold another product."""

    code = "cart_full"
    status = 409


class PreferencesTooLarge(GatewayError):
    """These are more preferences than a conversation may have."""

    code = "preferences_too_large"
    status = 413


ERRORS = (
    ProductNotFound,
    NotInCart,
    NotForSale,
    CartLimit,
    CartEmpty,
    CartFull,
    PreferencesTooLarge,
)
